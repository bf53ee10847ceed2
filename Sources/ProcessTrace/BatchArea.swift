struct BatchArea { var x = 0 }
