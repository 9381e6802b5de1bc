"""What STEM-GNN is compared with: plain and robust networks; published systems are in `study.rivals`."""
