"""Generated images, judged: how near they are to held-out ones, beside real images as near."""

__all__ = ["distances", "figures", "image_statistics"]
