"""`multicl fit DATA`: look at data of one's own, choose a graph and sizes, write them as a recipe, launch it."""
