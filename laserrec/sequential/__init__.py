"""Sequential recommenders over item ids: SASRec, BERT4Rec, GRU4Rec, FDSA, and their ensemble."""
