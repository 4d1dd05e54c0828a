"""Echo from noise: the reproducible companion of Stojanovski et al., ASMUS 2023.

Notation, the same everywhere. B batch, K classes, H W pixels (rows = depth with the probe at the
top, columns = lateral).

    image        (B, 1, H, W)  float32 in [-1, 1]
    label_map    (B, H, W)     int64, class ids of ``echo_lib.labels``
    onehot       (B, K, H, W)  float32, 0 or 1
    t            (B,)          int64 in [0, T)
    spacing_mm   (2,)          millimetres per pixel along rows, columns

Suffixes name units: ``_mm``, ``_px``, ``_s`` (seconds).
"""

__version__ = "0.1.0"
