"""Programs in seven languages that call a model, made from its signature."""
