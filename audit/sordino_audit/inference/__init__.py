"""What a model lets be inferred of people and of populations, as advantage over not having it.

Differential privacy bounds what a model says of any one record beyond what it would say without it.
It promises nothing about what is true of a population: a model that predicts well lets attributes
be guessed, of people who never were in the data too. So what counts here is the advantage over a
baseline that never saw the model, the verdict is never a violation, and for attributes the same is
measured on people whom the model never saw.
"""
