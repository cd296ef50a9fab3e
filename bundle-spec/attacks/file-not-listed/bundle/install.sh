echo gotcha
