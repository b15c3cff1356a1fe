"""Who carries out runs, where and when: this machine or SLURM.

Knows runs and reads their directories. Open `submit` first.
"""
