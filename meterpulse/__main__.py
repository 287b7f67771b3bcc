"""`python -m meterpulse` is the command `meterpulse`."""

from meterpulse.cli import run

if __name__ == "__main__":
    run()
