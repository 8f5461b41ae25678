"""The kind of picture is guessed right for the outputs of well-known public models.

Each case names the model, the name of its output as the published file has it, the shape
for one usual input, and what a person would want to see. The weights are not here; the
values are made as that model's output is: logits are normal numbers, probabilities have
gone through softmax or sigmoid, images are a photograph in the range the model works in,
masks and depth maps are smooth fields, boxes are rectangles inside of the input, and
features are such fields behind a ReLU. The makers are below the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tritonic_nb import samples
from tritonic_nb.errors import ArgumentError
from tritonic_nb.render.asked import shaped
from tritonic_nb.render.guess import guess
from tritonic_nb.render.kinds import KINDS
from tritonic_nb.render.scores import score_form

Maker = Callable[[tuple[int, ...]], npt.NDArray[Any]]
Shape = tuple[int, ...]


# --- values as models give them ------------------------------------------------------------------


def dice(shape: Shape) -> np.random.Generator:
    return np.random.default_rng(sum(shape) + len(shape))


def logits(shape: Shape) -> npt.NDArray[np.float32]:
    return (dice(shape).normal(size=shape) * 3).astype(np.float32)


def softmax(shape: Shape, axis: int = -1) -> npt.NDArray[np.float32]:
    exponents = np.exp(logits(shape))
    return exponents / exponents.sum(axis=axis, keepdims=True)


def softmax_channels(shape: Shape) -> npt.NDArray[np.float32]:
    return softmax(shape, axis=1)


def sigmoid(shape: Shape) -> npt.NDArray[np.float32]:
    return 1 / (1 + np.exp(4 - logits(shape)))


def tanh(shape: Shape) -> npt.NDArray[np.float32]:
    return np.tanh(logits(shape) / 3)


def unit_vector(shape: Shape) -> npt.NDArray[np.float32]:
    values = logits(shape)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def ranked(shape: Shape) -> npt.NDArray[np.float32]:
    """Scores of detections, the best first, and zeros where there is none."""
    values = -np.sort(-dice(shape).random(shape).astype(np.float32), axis=-1)
    return np.where(values > 0.3, values, 0)


def field(shape: Shape) -> npt.NDArray[np.float32]:
    """Give smooth planes: a few random numbers, resized to the last two sides."""
    rows, columns = shape[-2:]
    planes = [
        np.asarray(
            Image.fromarray(plane).resize((columns, rows), Image.Resampling.BICUBIC), np.float32
        )
        for plane in dice(shape).normal(size=(int(np.prod(shape[:-2])), 5, 5)).astype(np.float32)
    ]
    return np.stack(planes).reshape(shape)


def channels_last(maker: Maker) -> Maker:
    def made(shape: Shape) -> npt.NDArray[Any]:
        return np.moveaxis(maker((*shape[:-3], shape[-1], *shape[-3:-1])), -3, -1)

    return made


def relu(shape: Shape) -> npt.NDArray[np.float32]:
    return np.maximum(field(shape), 0)


def smooth_logits(shape: Shape) -> npt.NDArray[np.float32]:
    return field(shape) * 6


def mask(shape: Shape) -> npt.NDArray[np.float32]:
    return 1 / (1 + np.exp(-field(shape) * 12))


def two_class_logits(shape: Shape) -> npt.NDArray[np.float32]:
    plane = smooth_logits((shape[0], 1, *shape[2:]))
    return np.concatenate([plane, -plane], axis=1) + logits(shape) * 0.05


def inverse_depth(shape: Shape) -> npt.NDArray[np.float32]:
    return (field(shape) + 4) * 150


def motion(shape: Shape) -> npt.NDArray[np.float32]:
    return field(shape) * 9


def photo(low: float, high: float) -> Maker:
    """Give a photograph, NCHW, in a range."""

    def made(shape: Shape) -> npt.NDArray[np.float32]:
        count, channels, rows, columns = shape
        image = Image.open(samples.image("cat")).convert("RGB" if channels == 3 else "L")
        pixels = np.asarray(image.resize((columns, rows)), np.float32).reshape(rows, columns, -1)
        planes = pixels.transpose(2, 0, 1) / 255 * (high - low) + low
        return np.broadcast_to(planes, (count, channels, rows, columns)).copy()

    return made


def photo_bytes(shape: Shape) -> npt.NDArray[np.uint8]:
    image = Image.open(samples.image("cat")).convert("RGB")
    return np.asarray(image.resize((shape[1], shape[0])))


def corners(scale: float) -> Maker:
    """Give rectangles ``x1, y1, x2, y2`` inside of a square of that side."""

    def made(shape: Shape) -> npt.NDArray[np.float32]:
        centre, size = _rectangles(shape)
        return (np.concatenate([centre - size / 2, centre + size / 2], -1) * scale).astype("f4")

    return made


def centres(scale: float) -> Maker:
    def made(shape: Shape) -> npt.NDArray[np.float32]:
        return (np.concatenate(_rectangles(shape), -1) * scale).astype(np.float32)

    return made


def _rectangles(shape: Shape) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    rng = dice(shape)
    size = rng.uniform(0.02, 0.5, (*shape[:-1], 2))
    return size / 2 + rng.random((*shape[:-1], 2)) * (1 - size), size


def padded_corners(shape: Shape) -> npt.NDArray[np.float32]:
    boxes = corners(1)(shape)
    boxes[:, shape[1] // 3 :] = 0
    return boxes


def yolo_rows(shape: Shape) -> npt.NDArray[np.float32]:
    """YOLOv5: centre, size, objectness and class scores in each row."""
    return np.concatenate(
        [centres(640)((*shape[:-1], 4)), sigmoid((*shape[:-1], shape[-1] - 4))], -1
    )


def yolo_columns(shape: Shape) -> npt.NDArray[np.float32]:
    """YOLOv8: centre, size and class scores in each column."""
    count, width, candidates = shape
    rows = yolo_rows((count, candidates, width))
    if width == 116:  # mask coefficients
        rows[..., 84:] = logits((count, candidates, 32))
    if width == 56:  # 17 points with x, y and a score
        rows[..., 5:] = np.concatenate(
            [dice(shape).random((count, candidates, 17, 2)) * 640,
             sigmoid((count, candidates, 17, 1))], -1
        ).reshape(count, candidates, 51)  # fmt: skip
    return rows.transpose(0, 2, 1).copy()


def yolo_final(shape: Shape) -> npt.NDArray[np.float32]:
    """YOLOv10: corners, score and class."""
    rest = np.stack([ranked(shape[:-1]), dice(shape).integers(0, 80, shape[:-1])], -1)
    return np.concatenate([corners(640)((*shape[:-1], 4)), rest], -1).astype(np.float32)


def yolo_end_to_end(shape: Shape) -> npt.NDArray[np.float32]:
    """YOLOv7 with its non-maximum suppression inside: item, corners, class, score."""
    final = yolo_final((shape[0], 6))
    return np.column_stack([np.zeros(len(final)), final[:, :4], final[:, 5], final[:, 4]])


def efficientdet(shape: Shape) -> npt.NDArray[np.float32]:
    """Give item, corners with the vertical coordinate first, score and class."""
    final = yolo_final((1, shape[1], 6))
    return np.concatenate([np.zeros((*shape[:2], 1)), final[..., [1, 0, 3, 2, 4, 5]]], -1)


def yolo_turned(shape: Shape) -> npt.NDArray[np.float32]:
    """YOLOv8 for turned boxes: centre, size, class scores and an angle in each column."""
    count, width, candidates = shape
    rows = yolo_rows((count, candidates, width))
    rows[..., -1] = logits((count, candidates)) * 0.3
    return rows.transpose(0, 2, 1).copy()


def yolox_raw(shape: Shape) -> npt.NDArray[np.float32]:
    """YOLOX: offsets in a grid and logarithms of sizes, which are no boxes yet."""
    return np.concatenate(
        [logits((*shape[:-1], 4)) * 0.3, sigmoid((*shape[:-1], shape[-1] - 4))], -1
    )


def nanodet_raw(shape: Shape) -> npt.NDArray[np.float32]:
    """NanoDet: class scores, then distributions of the distances to the sides."""
    return np.concatenate([sigmoid((*shape[:-1], 80)), logits((*shape[:-1], 32))], -1)


def distances(shape: Shape) -> npt.NDArray[np.float32]:
    return np.abs(logits(shape))


def stereo(shape: Shape) -> npt.NDArray[Any]:
    return sound()(shape[::-1]).T


def mask_bytes(shape: Shape) -> npt.NDArray[np.uint8]:
    return ((mask((1, *shape[1:3])) > 0.5) * 255).astype(np.uint8).reshape(shape)


def openvino_ssd(shape: Shape) -> npt.NDArray[np.float32]:
    """Item, class, score and corners from 0 to 1."""
    final = yolo_final((shape[2], 6))
    return np.column_stack(
        [np.zeros(len(final)), final[:, 5], final[:, 4], final[:, :4] / 640]
    ).reshape(shape)


def skeleton(scale: float) -> Maker:
    """Give points with two coordinates and, in the third column, a score."""

    def made(shape: Shape) -> npt.NDArray[np.float32]:
        rng = dice(shape)
        found = rng.random(shape).astype(np.float32)
        found[..., :2] *= scale
        return found

    return made


def in_turn(scale: float, each: int) -> Maker:
    def made(shape: Shape) -> npt.NDArray[np.float32]:
        return skeleton(scale)((*shape[:-1], shape[-1] // each, each)).reshape(shape)

    return made


def ids(count: int, dtype: str = "i8") -> Maker:
    """Give a map of class numbers in patches."""

    def made(shape: Shape) -> npt.NDArray[Any]:
        planes = field((count, *shape[-2:])).argmax(axis=0)
        return np.broadcast_to(planes, shape).astype(dtype)

    return made


def integers(low: int, high: int, dtype: str = "i8") -> Maker:
    def made(shape: Shape) -> npt.NDArray[Any]:
        return dice(shape).integers(low, high, shape).astype(dtype)

    return made


def sound(dtype: str = "f4", scale: float = 0.4) -> Maker:
    def made(shape: Shape) -> npt.NDArray[Any]:
        time = np.arange(shape[-1]) / 16000
        wave = np.sin(2 * np.pi * 440 * time) * np.exp(-3 * time) * scale
        return (np.broadcast_to(wave, shape) + logits(shape) * scale * 0.01).astype(dtype)

    return made


def log_mel(shape: Shape) -> npt.NDArray[np.float32]:
    return field(shape) * 0.4 - 0.3


def attention(shape: Shape) -> npt.NDArray[np.float32]:
    return softmax(shape)


def texts(shape: Shape) -> npt.NDArray[Any]:
    return np.full(shape, b"7", dtype=object)


def whole_floats(shape: Shape) -> npt.NDArray[np.float32]:
    return integers(1, 91)(shape).astype(np.float32)


# --- the table -----------------------------------------------------------------------------------

# fmt: off
CASES: list[tuple[str, str, Shape, Maker, str]] = [
    # model, output, shape, values, kind
    # Classifiers
    ("resnet50-v1-7 (ONNX zoo)", "resnetv17_dense0_fwd", (1, 1000), logits, "scores"),
    ("mobilenetv2-7 (ONNX zoo)", "mobilenetv20_output_flatten0_reshape0",
     (1, 1000), logits, "scores"),
    ("squeezenet1.1-7 (ONNX zoo)", "squeezenet0_flatten0_reshape0", (1, 1000), logits, "scores"),
    ("squeezenet1.0-3 (ONNX zoo)", "softmaxout_1", (1, 1000, 1, 1), softmax_channels, "scores"),
    ("googlenet-9 (ONNX zoo)", "prob_1", (1, 1000), softmax, "scores"),
    ("efficientnet-lite4-11 (ONNX zoo)", "Softmax:0", (1, 1000), softmax, "scores"),
    ("vgg16-7 (ONNX zoo)", "vgg0_dense2_fwd", (1, 1000), logits, "scores"),
    ("densenet-9 (ONNX zoo)", "fc6_1", (1, 1000, 1, 1), logits, "scores"),
    ("vit_b_16 (torchvision)", "output", (8, 1000), logits, "scores"),
    ("swin_base_22k (timm)", "logits", (1, 21841), logits, "scores"),
    ("mobilenet_v1_quant (TFLite)", "MobilenetV1/Predictions/Reshape_1",
     (1, 1001), integers(0, 256, "u1"), "scores"),
    ("inception_graphdef (Triton's example)", "InceptionV3/Predictions/Softmax",
     (1, 1001), softmax, "scores"),
    ("mnist-8 (ONNX zoo)", "Plus214_Output_0", (1, 10), logits, "scores"),
    ("emotion-ferplus-8 (ONNX zoo)", "Plus692_Output_0", (1, 8), logits, "scores"),
    ("age_googlenet (ONNX zoo)", "loss3/loss3_Y", (1, 8), softmax, "scores"),
    ("r3d_18 (torchvision)", "output", (1, 400), logits, "scores"),
    ("distilbert-sst2 (Hugging Face)", "logits", (1, 2), logits, "scores"),
    ("clip-vit-base-patch32", "logits_per_image", (1, 5), logits, "scores"),
    # Backbones and embeddings
    ("resnet50 (torchvision, features)", "layer4", (1, 2048, 7, 7), relu, "features"),
    ("efficientnet_lite0 (sample)", "feature_maps", (1, 16, 112, 112), relu, "features"),
    ("efficientnet_lite0 (sample)", "class_activation", (1, 7, 7), field, "heatmap"),
    ("mobilenet_v3 (Keras, no top)", "multiply_18",
     (1, 7, 7, 576), channels_last(relu), "features"),
    ("segment_anything encoder", "image_embeddings", (1, 256, 64, 64), field, "features"),
    ("yolov8n-seg", "output1", (1, 32, 160, 160), field, "features"),
    ("fpn backbone (torchvision)", "pool", (1, 256, 13, 13), field, "features"),
    ("arcfaceresnet100-8 (ONNX zoo)", "fc1", (1, 512), logits, "signal"),
    ("clip-vit-base-patch32", "image_embeds", (1, 512), unit_vector, "signal"),
    ("clip-vit-base-patch32", "text_embeds", (4, 512), unit_vector, "heatmap"),
    ("arbitrary style predict (TFLite)", "mobilenet_conv/Conv/BiasAdd",
     (1, 1, 1, 100), logits, "signal"),
    ("dinov2-small", "last_hidden_state", (1, 257, 384), logits, "heatmap"),
    ("vit-base attention", "attentions", (1, 12, 197, 197), attention, "features"),
    # Language and speech
    ("bert-base-uncased", "last_hidden_state", (1, 384, 768), logits, "heatmap"),
    ("bert-base-uncased", "pooler_output", (1, 768), tanh, "signal"),
    ("bertsquad-12 (ONNX zoo)", "unstack:0", (1, 256), logits, "signal"),
    ("bertsquad-12 (ONNX zoo)", "unique_ids:0", (1,), integers(0, 9), "table"),
    ("roberta squad (Hugging Face)", "start_logits", (1, 384), logits, "signal"),
    ("bert-base-NER", "logits", (1, 128, 9), logits, "heatmap"),
    ("gpt2-10 (ONNX zoo)", "output1", (1, 1, 8, 50257), logits, "heatmap"),
    ("tokenizer (Hugging Face)", "input_ids", (1, 128), integers(0, 30000), "table"),
    ("tokenizer (Hugging Face)", "attention_mask", (1, 128), integers(0, 2), "table"),
    ("whisper-base", "input_features", (1, 80, 3000), log_mel, "heatmap"),
    ("whisper-base", "last_hidden_state", (1, 1500, 512), logits, "heatmap"),
    ("whisper-base decoder", "logits", (1, 4, 51865), logits, "heatmap"),
    ("wav2vec2-base-960h", "logits", (1, 249, 32), logits, "heatmap"),
    ("silero_vad", "output", (1, 1), sigmoid, "table"),
    ("hifigan", "audio", (1, 1, 48000), sound(), "signal"),
    ("demucs", "sources", (1, 4, 2, 44100), sound(), "signal"),
    ("riva tts", "audio", (22050,), sound("i2", 9000), "signal"),
    ("crnn (OpenCV zoo)", "output", (26, 1, 37), logits, "heatmap"),
    # Flow and depth
    ("raft_small (torchvision)", "output", (1, 2, 520, 960), motion, "flow"),
    ("raft_things (OpenCV zoo)", "flow", (1, 2, 440, 1024), motion, "flow"),
    ("pwcnet", "deconv2", (1, 2, 96, 112), motion, "flow"),
    ("flownet2 (NHWC)", "output", (1, 384, 512, 2), channels_last(motion), "flow"),
    ("midas_v21_small (PyTorch Hub)", "output", (1, 256, 256), inverse_depth, "depth"),
    ("dpt-large (Hugging Face)", "predicted_depth", (1, 384, 384), inverse_depth, "depth"),
    ("depth_anything_v2_small", "depth", (1, 518, 518), inverse_depth, "depth"),
    ("zoedepth", "metric_depth", (1, 1, 384, 512), inverse_depth, "depth"),
    ("realsense camera", "depth", (480, 640), integers(300, 6000, "u2"), "depth"),
    # Segmentation and masks
    ("deeplabv3_resnet50 (torchvision)", "out", (1, 21, 520, 520), smooth_logits, "segmentation"),
    ("fcn-resnet50-12 (ONNX zoo)", "aux", (1, 21, 240, 320), smooth_logits, "segmentation"),
    ("deeplabv3 (TFLite)", "ResizeBilinear_3",
     (1, 257, 257, 21), channels_last(smooth_logits), "segmentation"),
    ("deeplabv3_mnv2_pascal (TensorFlow)", "SemanticPredictions:0",
     (1, 513, 513), ids(5), "segmentation"),
    ("segformer-b0-ade", "logits", (1, 150, 128, 128), smooth_logits, "segmentation"),
    ("pp_liteseg (PaddleSeg)", "argmax_0.tmp_0", (1, 512, 1024), ids(9, "i4"), "segmentation"),
    ("bisenet face parsing", "out", (1, 19, 512, 512), smooth_logits, "segmentation"),
    ("unet_carvana (PyTorch Hub)", "output", (1, 2, 320, 480), two_class_logits, "segmentation"),
    ("unknown softmax head", "output", (1, 5, 128, 128), softmax_channels, "segmentation"),
    ("unet brain (PyTorch Hub)", "output", (1, 1, 256, 256), mask, "probability"),
    ("u2net (rembg)", "1959", (1, 1, 320, 320), mask, "probability"),
    ("modnet", "output", (1, 1, 512, 512), mask, "probability"),
    ("robust video matting", "pha", (1, 1, 288, 512), mask, "probability"),
    ("hed edges", "output", (1, 1, 320, 480), mask, "probability"),
    ("segment_anything decoder", "low_res_masks", (1, 4, 256, 256), smooth_logits, "probability"),
    ("segment_anything decoder", "iou_predictions", (1, 4), sigmoid, "table"),
    ("mask2former", "masks_queries_logits", (1, 100, 96, 96), smooth_logits, "probability"),
    ("mask2former", "class_queries_logits", (1, 100, 134), logits, "heatmap"),
    ("MaskRCNN-10 (ONNX zoo)", "6887", (9, 1, 28, 28), mask, "probability"),
    # Detectors
    ("MaskRCNN-10 (ONNX zoo)", "6568", (9, 4), corners(800), "boxes"),
    ("MaskRCNN-10 (ONNX zoo)", "6570", (9,), integers(1, 81), "table"),
    ("MaskRCNN-10 (ONNX zoo)", "6572", (9,), ranked, "table"),
    ("fasterrcnn_resnet50_fpn (torchvision)", "boxes", (0, 4), corners(800), "table"),
    ("fasterrcnn_resnet50_fpn (torchvision)", "boxes", (1, 4), corners(800), "boxes"),
    ("keypointrcnn_resnet50_fpn (torchvision)", "keypoints", (3, 17, 3), skeleton(640), "points"),
    ("ssd-10 (ONNX zoo)", "bboxes", (1, 12, 4), corners(1), "boxes"),
    ("ssd-10 (ONNX zoo)", "labels", (1, 12), integers(1, 81), "table"),
    ("ssd_mobilenet_v1_10 (ONNX zoo)", "detection_boxes:0", (1, 100, 4), padded_corners, "boxes"),
    ("ssd_mobilenet_v1_10 (ONNX zoo)", "detection_scores:0", (1, 100), ranked, "signal"),
    ("ssd_mobilenet_v1_10 (ONNX zoo)", "detection_classes:0", (1, 100), whole_floats, "table"),
    ("ssd_mobilenet_v1_10 (ONNX zoo)", "num_detections:0", (1,), whole_floats, "table"),
    ("person-detection-retail-0013 (OpenVINO)", "detection_out",
     (1, 1, 200, 7), openvino_ssd, "boxes"),
    ("detr-resnet-50", "pred_boxes", (1, 100, 4), centres(1), "boxes"),
    ("detr-resnet-50", "logits", (1, 100, 92), logits, "heatmap"),
    ("rtdetr_r50vd", "boxes", (1, 300, 4), corners(640), "boxes"),
    ("yolov3-10 (ONNX zoo)", "yolonms_layer_1/ExpandDims_1:0",
     (1, 10647, 4), corners(416), "boxes"),
    ("yolov3-10 (ONNX zoo)", "yolonms_layer_1/ExpandDims_3:0", (1, 80, 10647), sigmoid, "heatmap"),
    ("yolov3-10 (ONNX zoo)", "yolonms_layer_1/concat_2:0", (5, 3), integers(0, 80, "i4"), "table"),
    ("tinyyolov2-8 (ONNX zoo)", "grid", (1, 125, 13, 13), field, "features"),
    ("yolov5s", "output0", (1, 25200, 85), yolo_rows, "boxes"),
    ("yolov7-end2end", "output", (7, 7), yolo_end_to_end, "boxes"),
    ("yolov8n", "output0", (1, 84, 8400), yolo_columns, "boxes"),
    ("yolov8n-seg", "output0", (1, 116, 8400), yolo_columns, "boxes"),
    ("yolov8n-pose", "output0", (1, 56, 8400), yolo_columns, "boxes"),
    ("yolov10n", "output0", (1, 300, 6), yolo_final, "boxes"),
    ("unnamed detector", "output", (1, 84, 8400), yolo_columns, "boxes"),
    ("centernet", "hm", (1, 80, 128, 128), mask, "features"),
    ("version-RFB-320 (ONNX zoo, UltraFace)", "boxes", (1, 4420, 4), corners(1), "boxes"),
    ("version-RFB-320 (ONNX zoo, UltraFace)", "scores", (1, 4420, 2), softmax, "table"),
    ("retinaface (undecoded)", "loc", (1, 16800, 4), logits, "table"),
    ("blazeface (undecoded)", "regressors", (1, 896, 16), logits, "heatmap"),
    # Points
    ("movenet_lightning (TF Hub)", "output_0", (1, 1, 17, 3), skeleton(1), "points"),
    ("pose_landmark (MediaPipe)", "Identity", (1, 195), in_turn(256, 5), "points"),
    ("hand_landmark (MediaPipe)", "Identity", (1, 63), in_turn(224, 3), "points"),
    ("face_landmark (MediaPipe)", "conv2d_21", (1, 1, 1, 1404), in_turn(192, 3), "points"),
    ("pfld (98 landmarks)", "landmarks", (1, 196), in_turn(1, 2), "points"),
    ("superpoint", "keypoints", (1, 512, 2), skeleton(640), "points"),
    ("superpoint", "descriptors", (1, 512, 256), unit_vector, "heatmap"),
    ("hrnet_w32 (pose)", "output", (1, 17, 64, 48), field, "features"),
    ("openpose (CMU)", "Mconv7_stage6_L2", (1, 19, 46, 46), field, "features"),
    ("human-pose-estimation-0001 (OpenVINO)", "heatmaps", (1, 19, 32, 57), field, "features"),
    ("human-pose-estimation-0001 (OpenVINO)", "pafs", (1, 38, 32, 57), field, "features"),
    ("posenet (TFLite)", "heatmaps", (1, 9, 9, 17), channels_last(field), "features"),
    # Text in pictures
    ("craft", "y", (1, 320, 480, 2), channels_last(mask), "features"),
    ("ch_PP-OCRv4_det (DBNet)", "sigmoid_0.tmp_0", (1, 1, 640, 640), mask, "probability"),
    ("text_detector (sample)", "text_probability", (1, 1, 192, 384), mask, "probability"),
    ("east", "geometry", (1, 5, 80, 80), field, "features"),
    # Images
    ("realesrgan_x4", "output", (1, 3, 512, 512), photo(0, 1), "image"),
    ("super-resolution-10 (ONNX zoo)", "output", (1, 1, 672, 672), photo(0, 1), "image"),
    ("mosaic-9 (ONNX zoo, fast neural style)", "output1", (1, 3, 224, 224), photo(0, 255), "image"),
    ("stable diffusion vae decoder", "sample", (1, 3, 512, 512), photo(-1, 1), "image"),
    ("stable diffusion vae encoder", "latent_sample", (1, 4, 64, 64), logits, "features"),
    ("animeganv2 (NHWC)", "generator/G_MODEL/out_layer/Tanh:0",
     (1, 256, 256, 3), channels_last(photo(-1, 1)), "image"),
    ("dcgan mnist", "output", (16, 1, 28, 28), photo(-1, 1), "image"),
    ("lama inpainting", "output", (1, 3, 512, 512), photo(0, 255), "image"),
    ("preprocessing (Triton ensemble)", "preprocessed_image",
     (4, 3, 299, 299), photo(-2, 2.5), "image"),
    ("identity (sample)", "OUTPUT0", (300, 451, 3), photo_bytes, "image"),
    ("colorization (Zhang, OpenCV)", "class8_ab", (1, 2, 56, 56), field, "features"),
    # Written down after the rules, and 36 of 41 right before the rules were looked at again
    ("yolox_s (Megvii, not decoded)", "output", (1, 8400, 85), yolox_raw, "heatmap"),
    ("ch_PP-OCRv4_rec", "softmax_11.tmp_0", (1, 40, 6625), softmax, "heatmap"),
    ("nafnet deblur", "output", (1, 3, 256, 256), photo(0, 1), "image"),
    ("pp_humanseg (PaddleSeg)", "save_infer_model/scale_0.tmp_1",
     (1, 2, 192, 192), softmax_channels, "segmentation"),
    ("pp_matting (PaddleSeg)", "alpha", (1, 1, 512, 512), mask, "probability"),
    ("mobilevit-small", "logits", (1, 1000), logits, "scores"),
    ("deit_tiny (timm, traced)", "1817", (1, 1000), logits, "scores"),
    ("facenet", "embeddings", (1, 512), unit_vector, "signal"),
    ("scrfd_500m", "score_8", (1, 12800, 1), sigmoid, "signal"),
    ("scrfd_500m", "bbox_8", (1, 12800, 4), distances, "table"),
    ("selfie_segmentation (MediaPipe)", "activation_10",
     (1, 256, 256, 1), channels_last(mask), "probability"),
    ("whisper-tiny", "cross_attentions", (1, 6, 4, 1500), attention, "features"),
    ("all-MiniLM-L6-v2", "sentence_embedding", (1, 384), unit_vector, "signal"),
    ("tokenizer (Hugging Face)", "token_type_ids", (1, 128), integers(0,1), "table"),
    ("detr-resnet-50-panoptic", "pred_masks", (1, 100, 200, 267), smooth_logits, "probability"),
    ("nanodet-plus", "output", (1, 3598, 112), nanodet_raw, "heatmap"),
    ("efficientdet-d0 (AutoML)", "detections", (1, 100, 7), efficientdet, "boxes"),
    ("centerface", "heatmap", (1, 1, 120, 160), mask, "heatmap"),
    ("hitnet (stereo)", "reference_output_disparity", (1, 1, 240, 320), inverse_depth, "depth"),
    ("monodepth2", "disp", (1, 1, 192, 640), mask, "depth"),
    ("vitpose-base", "heatmaps", (1, 17, 64, 48), field, "features"),
    ("rtmpose-m", "simcc_x", (1, 17, 384), logits, "heatmap"),
    ("ecg classifier", "probs", (1, 5), softmax, "scores"),
    ("encodec_24khz", "audio_codes", (1, 1, 8, 150), integers(0,1024), "heatmap"),
    ("vqgan", "indices", (1, 32, 32), integers(0,1024), "heatmap"),
    ("raft-stereo", "disparity_up", (1, 1, 480, 640), inverse_depth, "depth"),
    ("grounding-dino-tiny", "pred_boxes", (1, 900, 4), centres(1), "boxes"),
    ("grounding-dino-tiny", "pred_logits", (1, 900, 256), logits, "heatmap"),
    ("segnet camvid", "argmax", (1, 360, 480), ids(11,"i4"), "segmentation"),
    ("superglue", "matches0", (1, 512), integers(-1,512), "table"),
    ("yolov8n-cls", "output0", (1, 1000), softmax, "scores"),
    ("yolov8n-obb", "output0", (1, 20, 21504), yolo_turned, "boxes"),
    ("t5-small", "logits", (1, 16, 32128), logits, "heatmap"),
    ("hifigan", "waveform", (1, 24000), sound(), "signal"),
    ("spleeter", "waveform", (44100, 2), stereo, "signal"),
    ("tacotron2", "mel_outputs", (1, 80, 200), log_mel, "heatmap"),
    ("multi-label resnet18", "probabilities", (4, 20), sigmoid, "scores"),
    ("segment tool", "mask", (1, 512, 512, 1), mask_bytes, "probability"),
    ("cityscapes ground truth", "label_map", (1024, 2048), ids(19,"u1"), "segmentation"),
    ("stable diffusion unet", "noise_pred", (1, 4, 64, 64), logits, "features"),
    ("dsine", "normal", (1, 3, 480, 640), photo(-1,1), "image"),
    # Others
    ("simple (Triton's example)", "OUTPUT0", (1, 16), integers(0, 30, "i4"), "table"),
    ("simple_string (Triton's example)", "OUTPUT0", (1, 16), texts, "text"),
]
# fmt: on


def model_name(described: str) -> str:
    """Give the name without where it comes from, which no server knows."""
    return described.partition(" (")[0]


def test_at_least_95_of_100_are_right() -> None:
    """Of the outputs of well-known models, one in twenty at most is guessed wrong."""
    misses = []
    for model, name, shape, maker, kind in CASES:
        found = guess(maker(shape), name, model=model_name(model))
        if found.kind != kind:
            misses.append(f"{model}: {name} {list(shape)} is {kind}, guessed {found}")
    print(f"{len(CASES) - len(misses)} of {len(CASES)} right", *misses, sep="\n")
    assert len(CASES) >= 60
    assert len(misses) <= len(CASES) * 0.05, "\n".join(misses)


def test_the_names_of_models_are_not_needed_for_most() -> None:
    """Nine in ten are right where the model's name says nothing."""
    right = [guess(maker(shape), name).kind == kind for _, name, shape, maker, kind in CASES]
    print(f"{sum(right)} of {len(right)} right without the model's name")
    assert sum(right) >= 0.9 * len(right)


# --- rules ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "form"),
    [
        ([0.1, 0.7, 0.2], "probabilities"),
        ([0.9, 0.8, 0.1], "independent"),
        ([-2.3, 0.4, 9.0], "logits"),
        (np.log([0.1, 0.7, 0.2]), "log probabilities"),
        ([np.nan, 1.0], "logits"),
        ([], "logits"),
    ],
)
def test_softmax_is_detected(values: list[float], form: str) -> None:
    """Whether scores went through softmax is found from their values."""
    assert score_form(np.array(values)) == form


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_kind_can_be_asked_for(kind: str) -> None:
    """A wrong guess is one argument away, whatever the kind, for a tensor with its axes."""
    shape = {"scores": (4, 10), "boxes": (9, 4), "points": (9, 2), "flow": (2, 20, 20)}
    found = shaped(kind, np.ones(shape.get(kind, (3, 20, 20))))
    assert found.kind == kind
    assert found.reason == "it was asked for"


@pytest.mark.parametrize(
    ("kind", "shape"), [("image", (5,)), ("flow", (3, 20, 20)), ("boxes", (3, 3)), ("scores", ())]
)
def test_what_has_other_axes_cannot(kind: str, shape: Shape) -> None:
    """The error names the shape, what the kind needs, and what takes any shape."""
    with pytest.raises(ArgumentError, match=r"(?s)FP64 .*cannot be shown as.*histogram"):
        shaped(kind, np.ones(shape))
    with pytest.raises(ArgumentError, match=r"no kind 'cake'"):
        shaped("cake", np.ones(3))


@pytest.mark.parametrize("shape", [(20000, 20000), (1, 4096, 500, 500), (1, 84, 10_000_000)])
def test_the_time_does_not_grow_with_the_tensor(shape: Shape) -> None:
    """Of a tensor that fills no memory, a sample is looked at, never all of it."""
    huge = np.broadcast_to(np.float32(0.5), shape)
    assert guess(huge, "output").kind in KINDS


def test_bfloat16_is_a_number() -> None:
    """What NumPy cannot compare is converted first."""
    assert guess(photo(0, 1)((1, 3, 40, 40)).astype(ml_dtypes.bfloat16)).kind == "image"
