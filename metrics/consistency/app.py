"""The page of the Space: two files of predictions; how often both models say the same, and every row where not."""

from pathlib import Path

from muscle_hf.spaces.app import build_page

demo = build_page("consistency", Path(__file__).resolve().with_name("README.md"))

if __name__ == "__main__":
    demo.launch(max_file_size="50mb", run_history=False)
