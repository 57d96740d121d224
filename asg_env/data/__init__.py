"""Images: splits in memory or in files, decoding, caches."""
