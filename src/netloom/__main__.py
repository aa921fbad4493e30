"""`python -m netloom` is the `netloom` command."""

from netloom.cli import main

if __name__ == "__main__":
    main()
