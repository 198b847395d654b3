"""`hyena-dist doctor`: what this machine has, whether processes can talk, and what is missing for what."""
