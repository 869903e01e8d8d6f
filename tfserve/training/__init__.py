"""Training: a project folder of images in, a trained, evaluated and exported model out.

    examine      checks the folder: contents and all problems             (findings, images, labels, masks)
    parameters   the parameters, with defaults, ranges and help           (tables)
    recipes      classification, segmentation: each read from top to bottom
    blocks       store, splitting, datasets, augment, backbones, features, unet, fitting, checkpoints,
                 signatures, exports, evaluation, plots, events, report

Dataset checks and parameters import neither TensorFlow nor Keras.
"""
