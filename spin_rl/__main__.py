"""``python -m spin_rl``: the command line, from a plain checkout too."""

from spin_rl.cli import main

if __name__ == "__main__":
    main()
