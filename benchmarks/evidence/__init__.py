"""How often the right page and quote are found, on planted reports and real documents."""
