"""Strong-lensing deep learning as batch jobs.

A *job* is a YAML recipe; it expands into *runs*; a run has an identity and a *run directory*.
``run`` carries one out, ``submit`` hands many to a machine or a cluster, ``collect`` reads run
directories and compares them. Nothing is imported here, so that ``--help``, ``status`` and
``collect`` never load torch.
"""

__version__ = "0.1.0"
