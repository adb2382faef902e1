"""SPIN-RL: offline reinforcement learning in large discrete action spaces, distributed with Ray.

In a checkout the four parts are links to the folders beside this one, so that this folder is the whole package.
"""

__version__ = "0.1.0"
