"""Payment intents: holds, captures, refunds, disputes."""
