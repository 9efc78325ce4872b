"""`python -m limakit`, as torchrun starts it: torchrun --nproc-per-node 2 -m limakit train."""

from .cli import main

if __name__ == "__main__":
    main()
