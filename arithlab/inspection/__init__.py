"""Looking inside a trained model: attention maps, cut heads (torch)."""
