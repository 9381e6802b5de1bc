"""What STEM-GNN is compared with: plain and robust networks; published systems are the study's, `study.rivals`."""
