"""Training: a project folder of images in, a trained, evaluated and exported model out.

    examine      what is in the folder, and all that is wrong with it     (findings, images, labels, masks)
    parameters   what can be chosen, with defaults, ranges and help       (tables)
    recipes      classification, segmentation: each read from top to bottom
    blocks       store, splitting, datasets, augment, backbones, features, unet, fitting, checkpoints,
                 signatures, exports, evaluation, plots, events, report

Examination and parameters import neither TensorFlow nor Keras.
"""
