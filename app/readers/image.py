"""Page images as files."""

from io import BytesIO

from PIL import Image, ImageChops


def encode(image: Image.Image) -> bytes:
    """An RGB image as PNG, in grey where it has no colour, or as JPEG: the smaller one."""
    red, green, blue = image.split()
    if not ImageChops.difference(red, green).getbbox() and not ImageChops.difference(red, blue).getbbox():
        image = red
    png, jpeg = BytesIO(), BytesIO()
    image.save(png, "PNG", compress_level=3)
    image.save(jpeg, "JPEG", quality=85)
    return min(png.getvalue(), jpeg.getvalue(), key=len)
