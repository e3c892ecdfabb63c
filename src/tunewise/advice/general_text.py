"""A page of general English, written for this: what a domain's text is held against."""

GENERAL_TEXT = """\
The town lies at the bend of a slow river, between low hills that are green for most of the year. On
market days the square fills before seven, and by noon the baker has usually sold out. People come
from the villages around it, partly for the vegetables and the cheese, but mostly to talk. An old
clock tower looks down on all this; it has been five minutes late for as long as anyone remembers,
and nobody wants to see it mended.

When the railway came, many expected the place to grow quickly. It did not. A few workshops opened
near the station, a school was built, and the inn got a second floor. Then the new road drew the
traffic away, and the town was left much as it had been before. Some families moved to the city to
look for work. Others stayed, and their children learned to repair tractors, to run a shop or to
teach.

Last winter the river rose higher than usual. Water stood in the cellars for three days, and the
fire brigade brought food to those who could not leave their houses. Afterwards the council met to
decide what should be done. One group asked for a wall along the bank; another said that a wall
would only move the problem downstream, and that it would be better to give the water more room in
the meadows. They argued until midnight. In the end they agreed to wait for a report, which is what
councils often do.

If you visit in spring, walk up the path behind the church. It takes about half an hour, and you
will need good shoes if it has rained. From the top you can see the whole valley, and on clear days
the mountains in the south. Take something to drink with you, because there is no fountain on the
way. On your way back, stop at the garden where an old man sells honey from a table by the gate. He
will ask you where you are from, and whether it rains there as well.
"""
