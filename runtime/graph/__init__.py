"""A model as a graph: sites, taps, edits, and the merged graph of all conditions. Knows no kind, plan or study."""
