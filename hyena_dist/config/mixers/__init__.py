"""The sequence mixers as records without torch: what configuration and plans know of each. `table` lists them."""
