"""Published systems that STEM-GNN is compared with: a mixture of experts, and encoders that learnt without labels."""
