"""`python -m simdist` is `simdist`."""

from simdist.cli.main import main

if __name__ == "__main__":
    main()
