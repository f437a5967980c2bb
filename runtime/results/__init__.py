"""What a run leaves: its folder, manifest, numbers, intervals and claims. Free of torch; imports no other room."""
