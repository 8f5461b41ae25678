"""What the names of tensors and of models say about what a tensor is."""

from __future__ import annotations

import re

__all__ = ["Names"]

# Words of tensors' names, and of models' names, which often tell more.
_WORDS = {
    "image": "image images img picture photo rgb bgr gray grey frame frames pixel pixels sr "
    "reconstruction reconstructed restored stylized generated upscaled superres decoded",
    "depth": "depth disparity disp inverse",
    "flow": "flow flows flo optical motion",
    "boxes": "box boxes bbox bboxes dets det detections rois proposals",
    "points": "keypoint keypoints kpt kpts landmark landmarks joint joints point points pose "
    "poses corners vertices skeleton ld",
    "segmentation": "seg segm segmentation semantic parsing classmap labelmap argmax",
    "probability": "mask masks probability prob probs alpha matte pha saliency sal confidence "
    "foreground occupancy edge edges",
    "scores": "logits logit scores score prob probs probability probabilities softmax class "
    "classes classification predictions prediction pred cls category loss3 prob1 softmaxout",
    "signal": "audio wave waveform wav speech pcm signal ecg enhanced denoised",
    "vector": "embedding embeddings embeds embed pooled pooler descriptor vector",
    "map": "mel mels spectrogram spec magnitude attention attentions attn hidden activation cam "
    "similarity matrix encoder tokens token last state states sequence emissions ctc rnn",
    "features": "feature features featuremap fpn backbone heatmap heatmaps paf pafs maps layer "
    "stage block attention attentions attn latent latents activations",
    "rows": "id ids index indices idx count counts num number keep length lengths valid shape "
    "offsets sizes anchors loc priors deltas regressors",
}
_VOCABULARY = {kind: frozenset(words.split()) for kind, words in _WORDS.items()}

_MODELS = {
    "depth": "midas dpt depth zoedepth marigold monodepth adabins",
    "flow": "raft flownet pwc pwcnet liteflownet gmflow",
    "boxes": "yolo ssd retinanet detr rtdetr fasterrcnn centernet detector detection yolox",
    "points": "pose openpose blazepose movenet hrnet posenet landmark facemesh keypoint",
    "segmentation": "unet deeplab deeplabv segformer fcn bisenet pspnet segmentation lraspp "
    "parsing maskformer",
    "probability": "u2net modnet matting matte craft dbnet rembg saliency text hed",
    "scores": "resnet mobilenet efficientnet vgg densenet squeezenet googlenet inception "
    "shufflenet alexnet convnext vit swin classifier classification regnet nasnet mnasnet "
    "emotion mnist yamnet beit deit",
    "image": "esrgan realesrgan srgan superresolution resolution style transfer cyclegan dcgan "
    "animegan stylegan gan vae pix deblur denoise dehaze swinir edsr fsrcnn srcnn",
}
_MODEL_WORDS = {kind: frozenset(words.split()) for kind, words in _MODELS.items()}


class Names:
    """What the names of a tensor and of its model say."""

    def __init__(self, name: str, model: str) -> None:
        self.own = _tokens(name)
        self._model = _tokens(model)

    def says(self, *kinds: str) -> str:
        """Return the word of the tensor's name that speaks for one of these kinds, or ``""``."""
        for kind in kinds:
            found = sorted(self.own & _VOCABULARY[kind])
            if found:
                return max(found, key=len)
        return ""

    def hints(self, kind: str) -> str:
        """Return the word of either name that speaks for a kind, the tensor's own first.

        The model's name says nothing where the tensor's own says something else.
        """
        own = self.says(kind)
        if own or any(self.own & words for words in _VOCABULARY.values()):
            return own
        for word in sorted(_MODEL_WORDS.get(kind, ())):
            if any(token.startswith(word) for token in self._model):
                return word
        return ""

    def said(self, *kinds: str) -> str:
        """Say which word of either name spoke for one of these kinds."""
        own = self.says(*kinds)
        if own:
            return f"its name says {own!r}"
        word = next((self.hints(kind) for kind in kinds if self.hints(kind)), "")
        return f"the model's name says {word!r}"


def _tokens(name: str) -> frozenset[str]:
    """Split ``StatefulPartitionedCall:detection_boxes`` into words, plurals with their singular."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name[:400])
    words = re.findall(r"[a-z]+", spaced.lower())
    joined = re.findall(r"[a-z]+", name[:400].lower())
    found = {*words, *joined}
    return frozenset(found | {word[:-1] for word in found if word.endswith("s")})
