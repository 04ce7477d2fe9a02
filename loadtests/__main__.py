"""``python -m loadtests`` is ``tidegate-load``."""

from loadtests.cli import main

if __name__ == "__main__":
    main()
