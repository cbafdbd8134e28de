"""Trees to datasets to SFT and DPO."""
