"""DeepSpeed presets: ZeRO, offload and communication policy only. What RunConfig owns is filled in from it."""
