"""The model on other machines: replicas that read and answer, and the way of a page to them."""
