"""The page of the Space: two files of texts or scores; what the update made worse, how sure that is, and where."""

from pathlib import Path

from muscle_hf.spaces.app import build_page

demo = build_page("smooth_compatibility", Path(__file__).resolve().with_name("README.md"))

if __name__ == "__main__":
    demo.launch(max_file_size="50mb", run_history=False)
