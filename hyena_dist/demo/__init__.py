"""`hyena-dist demo`: the main job on the embedded corpus, cut to what this machine trains in a few minutes."""
