"""The items' data: what is here, what is missing, which items are drawn, and which were trained on."""
