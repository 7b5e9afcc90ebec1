"""What a dataset says: verdict table, sentences, HTML report. Reads only what the store wrote."""
