"""The page of the Space: two files of yes/no answers; which way the update turned them, and how sure that is."""

from pathlib import Path

from muscle_hf.spaces.app import build_page

demo = build_page("negative_bias", Path(__file__).resolve().with_name("README.md"))

if __name__ == "__main__":
    demo.launch(max_file_size="50mb", run_history=False)
