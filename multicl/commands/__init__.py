"""The commands of `multicl` beside `fit` and `search`, which have packages of their own."""
