"""In-context learning, in which a language model names the class of a sequence by the letter after it."""
