"""What STEM-GNN is compared with: plain, robust and self-supervised networks, and a mixture."""
