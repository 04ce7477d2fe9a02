"""A small speech service: eSpeak NG from a wheel, in a hundred languages, as WAV, MP3 or raw samples; no network."""
