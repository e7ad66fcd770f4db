#!/usr/bin/env python3
"""The other side of the benchmark of `ltx split`: PySceneDetect, as the reference's split_scenes.py calls it.

    reference_split.py FILM OUTPUT opencv|pyav THREADS detect|split

Prints one line of JSON: frames, seconds from opening the film on (without Python's start), scenes, and the peak memory in bytes of this
process and of the ffmpeg that it starts.

Needs scenedetect 0.7.2, opencv-python 5.0 and av, which other benchmarks do not.
"""
import json
import os
import resource
import sys
import time

film, output, backend, threads, job = sys.argv[1:]
os.environ["OPENCV_FFMPEG_THREADS"] = threads

import cv2
from scenedetect import ContentDetector, SceneManager, open_video, split_video_ffmpeg

cv2.setNumThreads(int(threads))
start = time.perf_counter()
video = open_video(film, backend=backend)
manager = SceneManager()
manager.add_detector(ContentDetector())
frames = manager.detect_scenes(video)
scenes = manager.get_scene_list(start_in_scene=True)
if job == "split":
    split_video_ffmpeg(film, scenes, output_dir=output)
seconds = time.perf_counter() - start
# What getrusage says of this process would count the one that started it.
own = int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
peak = max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
print(json.dumps(dict(frames=frames, seconds=seconds, scenes=len(scenes), peak=peak * 1024)))
