"""The campaign: its file, its model, and the draw of its clients."""
