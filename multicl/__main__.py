"""`python -m multicl`: the command line, for when its script is not on the path."""

from multicl.cli import main

if __name__ == "__main__":
    main()
