"""The number format in which a network's layers compute."""

import torch


def autocast(device, precision):
    """The autocast context of a config's ``precision``.

    Args:
        device: ``torch.device``.
        precision: "float32", "bfloat16", or "auto": bfloat16 where the device computes in it
            natively, else float32 (without that a CPU would be many times slower).
    """
    use = precision == "bfloat16" or (precision == "auto" and has_bfloat16(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=use)


def has_bfloat16(device):
    """True where ``device`` multiplies bfloat16 matrices in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
