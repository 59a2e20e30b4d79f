"""The supervisor: policy (pure), reconciler (one cycle), daemon (signals, inbox, reload)."""
