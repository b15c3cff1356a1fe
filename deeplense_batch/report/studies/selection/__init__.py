"""Selection functions: scores of models as a function of a quantity of the test images.

Open `study` first: it finds the quantity (`known`), sorts images into bins (`bins`) and measures
every run in each (`measures`, `numbers`); `page` shows what was found.
"""
