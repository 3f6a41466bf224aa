"""`multicl fit DATA`: inspect a user's own data, choose a graph and sizes, write them as a recipe, launch it."""
