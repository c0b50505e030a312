"""``python -m offloop``: the same command line as the ``offloop`` script."""

from offloop.cli import main

if __name__ == "__main__":
    main(prog_name="offloop")
